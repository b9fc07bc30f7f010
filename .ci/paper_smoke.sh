#!/usr/bin/env bash
# The paper's study from end to end, on data that the tests draw in the published layouts.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$root/tests" python - <<'PYTHON'
from pathlib import Path

from celeba_folder import write_celeba
from coco_folder import write_coco

write_coco(Path("coco"))
write_celeba(Path("celeba"))
PYTHON
ln -s "$root/train.py" "$root/compare.py" "$root/conf" .
for data in "data=coco data.root=coco" "data=celeba_mask_hq data.root=celeba data.merge_sides=true data.concepts=[hair,eye,nose,mouth]"; do
  python train.py experiment=paper_smoke $data +trainer.enable_progress_bar=false
done
for data in coco celeba_mask_hq; do
  for method in probes nmf; do
    python compare.py "runs=runs/$data-*/$method/*" "name=$data-$method" "agreement=[]" repairings=2 logger=none
  done
done
python - <<'PYTHON'
from itertools import combinations
from pathlib import Path

from cavalcade import load_comparison

NETWORKS = ("yolov5s-random", "ssd300_vgg16-random", "fasterrcnn_resnet50-random")
for name in ("coco-probes", "coco-nmf", "celeba_mask_hq-probes", "celeba_mask_hq-nmf"):
    comparison = load_comparison(Path("comparisons") / name)
    for pair in combinations(NETWORKS, 2):
        assert comparison.matrix(*pair, "adjusted").notna().any(axis=None), (name, pair)
PYTHON
