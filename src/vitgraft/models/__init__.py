"""What a user holds: a tuned model, the graft on disk, several at once, files of others."""
