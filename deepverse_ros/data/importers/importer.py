"""What an importer is: one format of recordings, read as episodes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from deepverse_ros.data.store import Episode
from deepverse_ros.robot.embodiment import Embodiment


class Importer(ABC):
    """Reads one format.

    name: in messages.
    description: what a file or folder of this format holds, a few words.
    """

    name: ClassVar[str]
    description: ClassVar[str]

    @abstractmethod
    def detect(self, path: Path) -> bool:
        """Whether `path`, a file or folder that is there, has this format; looks at names, and reads little."""

    @abstractmethod
    def episodes(self, path: Path, embodiment: Embodiment) -> Iterator[Episode]:
        """The recordings one after the other, always in the same order, as `embodiment` has them.

        `import_episodes` asks each whether it fits the embodiment, and computes where the tool was.

        Raises: EpisodeError naming the file, and what is wrong with it.
        """
