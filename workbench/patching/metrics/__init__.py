"""The metrics, one file each; a file is the metric it is named after."""
