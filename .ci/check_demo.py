"""Checks what the README's demo leaves in the present folder."""

from pathlib import Path

import cavalcade

runs = [cavalcade.load_run(path) for path in sorted(Path("runs").glob("faces-*/probes/*"))]
assert [run.label for run in runs] == ["efficientnet_lite0", "efficientnet_lite2"], runs
for run in runs:
    best = run.score_matrix("jaccard", "test").mean(axis=1).max()
    assert best > 0.5, f"{run.label}: best layer has a Jaccard index of {best:.3f}"
    assert len(run.truth.ids) == 200

(folder,) = Path("comparisons").glob("faces-*")
comparison = cavalcade.load_comparison(folder)
pairs = comparison.pairs.set_index(["measure", "statistic"]).loc["adjusted"]
assert pairs.loc["depth_gap", "high"] < 0.1, pairs
assert pairs.loc["similarity", "low"] > 0.35, pairs
assert pairs.loc["share_of_ceiling", "value"] > 0.5, pairs
assert all(finding["beyond_repaired"] for finding in comparison.summary["findings"].values())
assert (folder / "report" / "index.html").exists()
for kind in ("pdf", "png"):
    assert len(list((folder / "figures" / "matrices").glob(f"*.{kind}"))) == 3
    assert (folder / "figures" / f"networks.{kind}").exists()
offline = list(Path("wandb").glob("offline-run-*"))
assert len(offline) == 3, offline
print("demo: files and numbers are as expected")
