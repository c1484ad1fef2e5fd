"""Copy checkpoints between folders and stores: every byte is hashed on its way, and the manifest comes last."""
