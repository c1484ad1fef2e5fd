"""How two checkpoints differ, tensor by tensor, whatever their formats."""
