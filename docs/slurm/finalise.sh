#!/bin/bash
# The last step, when all parts are done; see docs/slurm.md.
#SBATCH --job-name=finalise
#SBATCH --time=01:00:00
#SBATCH --output=finalise-%j.log
set -euo pipefail

gen-captions finalise "$ROOT"
passerby verify "$ROOT" --workers "${SLURM_CPUS_PER_TASK:-1}"
