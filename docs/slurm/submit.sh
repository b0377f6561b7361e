#!/bin/bash
# Submit the array, and the last step behind it: IMAGES=… ATTRIBUTES=… ROOT=… bash submit.sh
set -euo pipefail
cd "$(dirname "$0")"
export IMAGES ATTRIBUTES ROOT

array=$(sbatch --parsable --export=ALL array.sh)
sbatch --export=ALL --dependency="afterok:${array%%;*}" finalise.sh
