"""The corruptions of images, one file each; a file is the corruption it is named after."""
