"""Full fine-tuning of a copy of an encoder: settings, learning rates by depth, and one training that can be resumed."""
