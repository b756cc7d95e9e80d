"""A stage small enough to be killed at every step, and the process that kills itself there."""

import os
import signal
import sys
from pathlib import Path

from drivelake.evidence.notary import LakeNotary, establish_trust
from drivelake.lake import Lake
from drivelake.stage import Made, Recipe, Stage, materialise

DECLARATION = """
lakehouse: tiny
owner: team:perception
rigs:
  car:
    reference: camera
    sensors:
      camera: {log: camera.mcap, channel: /camera, kind: payload}
"""


class Toy(Stage):
    """Copies ``<lake>/word`` into a version of signals; no input, one parameter."""

    asset = "signals"
    code_version = "1"

    def recipe(self, lake, partition):
        return Recipe(parameters={"word": (lake.root / "word").read_text()})

    def make(self, lake, partition, recipe, out, progress):
        (out / "deep").mkdir()
        (out / "deep" / "word.txt").write_text(recipe.parameters["word"])
        (out / "size.txt").write_text(str(len(recipe.parameters["word"])))
        return Made(facts={"letters": len(recipe.parameters["word"])})


def tiny_lake(root: Path, word: str = "first") -> Lake:
    lake = Lake.create(root, DECLARATION)
    (root / "word").write_text(word)
    establish_trust(lake)
    return lake


if __name__ == "__main__":
    folder, kill_at = Path(sys.argv[1]), sys.argv[2]

    def on_step(step):
        print(step, flush=True)
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    lake = Lake(folder)
    published = materialise(Toy(), lake, "d1", LakeNotary(lake), on_step=on_step)
    print(published.version.digest)
