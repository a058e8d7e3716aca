"""What a run came to: its record, and folders of records, as flat rows for pandas, too.

    found = vitgraft.results.store.read_all(Path("bench/records"))
    frame = pandas.DataFrame(found.rows())  # file, seed, test.top1, cost.trained_method, config.lr, ...
    found.skipped  # files that are no records, and why

Reading records imports no torch.
"""
