"""A tuned model as a program that runs without vitgraft: ONNX, TorchScript, torch.export."""
