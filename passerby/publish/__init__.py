"""Hand a data set on: to a folder, a bucket or the Hub; without its images, which others rebuild from their own copy."""
