#!/usr/bin/env bash
# The paper's study from end to end, on data that the tests draw in the published layouts.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$root/tests" python - <<'PYTHON'
from pathlib import Path

from celeba_folder import write_celeba
from coco_folder import write_coco

write_coco(Path("coco"), {"train": 12, "val": 8})
write_celeba(Path("celeba"), {"train": 12, "val": 4, "test": 8})
PYTHON
ln -s "$root/train.py" "$root/compare.py" .
for data in "data=coco data.root=coco" "data=celeba_mask_hq data.root=celeba data.merge_sides=true data.concepts=[hair,eye,nose,mouth]"; do
  python train.py experiment=paper_smoke $data +trainer.enable_progress_bar=false
done
# each data set and each method once: every call of compare.py starts for ten seconds
python compare.py "runs=runs/coco-*/nmf/*" name=coco-nmf "agreement=[]" repairings=2 logger=none
python compare.py "runs=runs/celeba_mask_hq-*/probes/*" name=celeba-probes "agreement=[]" repairings=2 logger=none
python - <<'PYTHON'
from pathlib import Path

import pandas as pd

for name, of in (("coco-nmf", "layer"), ("celeba-probes", "concept")):
    cells = pd.read_csv(Path("comparisons") / name / f"{of}_similarity.csv")
    cells = cells[cells["measure"] == "adjusted"]
    pairs = cells.groupby(["network_a", "network_b"])["value"].count()
    # of three networks, each with itself too; with so few images some cells are empty
    assert len(pairs) == 6, (name, pairs)
    assert (pairs > 0).all(), (name, pairs)
PYTHON
