"""Reads an offline W&B run back: a LevelDB-style record log of protobuf messages."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path):
    """Yield every `Record` of a .wandb file."""
    data = path.read_bytes()
    assert data[:4] == b":W&B", "not a W&B log"
    position, parts = 7, b""  # magic, version
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:  # the rest of a block is padding
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        position += HEADER
        parts += data[position : position + length]
        position += length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


@dataclass
class LoggedArtifact:
    """What `wandb sync` would upload: from where each file is, and under which name."""

    type: str
    aliases: set
    metadata: dict
    files: dict


class OfflineRun:
    """What an offline run holds: its names, config, history, summary, artifacts, exit code."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config, self.summary, self.history = {}, {}, []
        self.artifacts, self.command = {}, None
        self.exit_code = None
        for record in records(next(folder.glob("*.wandb"))):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.project = record.run.project
                self.id, self.name = record.run.run_id, record.run.display_name
                self.group, self.job_type = record.run.run_group, record.run.job_type
                self.tags = set(record.run.tags)
                self._update(self.config, record.run.config.update)
            elif kind == "config":
                self._update(self.config, record.config.update)
            elif kind == "summary":
                self._update(self.summary, record.summary.update)
            elif kind == "history":
                row = {}
                self._update(row, record.history.item)
                self.history.append(row)
            elif kind == "artifact":
                self._add_artifact(record.artifact)
            elif kind == "environment" and record.environment.args:
                self.command = list(record.environment.args)
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    def _add_artifact(self, artifact):
        self.artifacts[artifact.name] = LoggedArtifact(
            artifact.type,
            set(artifact.aliases),
            json.loads(artifact.metadata or "{}"),
            {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents},
        )

    @staticmethod
    def _update(target, items):
        for item in items:
            *parents, last = item.nested_key or [item.key]
            level = target
            for parent in parents:
                level = level.setdefault(parent, {})
            level[last] = json.loads(item.value_json)

    def logged(self, key):
        """Last logged value of a key."""
        return [row[key] for row in self.history if key in row][-1]
