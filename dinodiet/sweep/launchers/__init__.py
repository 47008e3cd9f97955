"""Who works on the cells of a grid: this process, several, or a SLURM cluster."""
