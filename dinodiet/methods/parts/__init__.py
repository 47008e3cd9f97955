"""What methods are made of: heads, losses, targets, teacher, mixing."""
