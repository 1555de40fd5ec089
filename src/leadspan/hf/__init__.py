"""leadspan inside a Hugging Face script: the cut as a data set, the loss as a Trainer."""
