#!/bin/bash
# One part of a data set a task; see docs/slurm.md.
#SBATCH --job-name=captions
#SBATCH --array=1-7
#SBATCH --cpus-per-task=4
#SBATCH --time=08:00:00
#SBATCH --output=captions-%A-%a.log
set -euo pipefail

gen-captions finegpr-c "$IMAGES" --attributes "$ATTRIBUTES" --out "$ROOT" --lambda 0.8 \
    --workers "${SLURM_CPUS_PER_TASK:-1}" --units auto
