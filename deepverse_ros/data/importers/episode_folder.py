"""Episodes of this package, such as those that another machine collected."""

from collections.abc import Iterator
from pathlib import Path

from deepverse_ros.data.importers.importer import Importer
from deepverse_ros.data.store import Episode, EpisodeStore
from deepverse_ros.robot.embodiment import Embodiment


class EpisodeFolder(Importer):
    """The folder of another episode store."""

    name = "episodes"
    description = "the folder of an episode store (episode_000000.h5 and so on)"

    def detect(self, path: Path) -> bool:
        return len(EpisodeStore(path)) > 0

    def episodes(self, path: Path, embodiment: Embodiment) -> Iterator[Episode]:
        store = EpisodeStore(path)
        yield from map(store.read, store.paths())
