"""One module for each data set's layout on disk: from a folder to a table of inputs."""
