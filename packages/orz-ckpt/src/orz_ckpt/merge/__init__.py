"""From a `Source` of any format to a Hugging Face folder: planned, copied, resumable, published at once."""
