"""The data set on disk: WebDataset tars, a Parquet table beside each, and a manifest over all."""
