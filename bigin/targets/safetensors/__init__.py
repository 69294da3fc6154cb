"""safetensors files and checkpoints."""
