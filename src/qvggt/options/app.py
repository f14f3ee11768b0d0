"""Options of the app in the browser."""

from __future__ import annotations

from dataclasses import dataclass, field

from qvggt.options.checks import check_fields
from qvggt.options.choices import Compute, check_choice
from qvggt.options.inference import LoadOptions
from qvggt.options.viewer import LOCAL_HOSTS, check_port
from qvggt.types import QvggtError


@dataclass(frozen=True)
class AppLimits:
    """What one visitor may ask for.

    Attributes:
        images: most photographs of a scene, and most frames taken of a video.
        file_mb: largest file, in megabytes (10^6 bytes).
        megapixels: largest photograph, in 10^6 pixels.
        points: most points of a scene; more are thinned at random.
        waiting: most requests that wait for their turn; more are refused.
        memory_bytes: process memory limit of a reconstruction; None for no limit.

    Raises:
        QvggtError: a value is out of range.
    """

    images: int = 32
    file_mb: int = 200
    megapixels: int = 100
    points: int = 300_000
    waiting: int = 16
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for what, value, name in (
            ("images", self.images, "--max-images"),
            ("megabytes of a file", self.file_mb, "--max-mb"),
            ("megapixels", self.megapixels, "--max-megapixels"),
            ("points", self.points, "--max-points"),
            ("waiting requests", self.waiting, "--max-waiting"),
        ):
            if value < 1:
                raise QvggtError(f"the most {what} must be at least 1, got {value} ({name})")


@dataclass(frozen=True)
class AppOptions:
    """What the app offers, and to whom.

    Attributes:
        models: names of models to choose from; the first is loaded at the start.
        device: on which they run.
        compute: mode that is chosen at first.
        host: address to listen on; ``127.0.0.1`` is reachable from this machine only.
        port: TCP port; the next free one is taken if it is in use.
        password: that the app asks for; None for none, which only a local address allows.
        public: whether everybody who can reach the app may use it without a password, as on a Hugging Face Space.
        limits: see ``AppLimits``.
        revision: branch, tag or commit of the models that are hub ids.

    Raises:
        QvggtError: there is no model, or other machines could use the app without a password.
    """

    models: tuple[str, ...] = ("nano",)
    device: str = LoadOptions.device
    compute: Compute = LoadOptions.compute
    host: str = "127.0.0.1"
    port: int = 7860
    password: str | None = field(default=None, repr=False)
    public: bool = False
    limits: AppLimits = AppLimits()
    revision: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.models:
            raise QvggtError("the app has no model: name at least one")
        check_choice("compute mode", self.compute, Compute)
        check_port(self.port)
        if self.password is not None and not self.password:
            raise QvggtError("the password is empty: choose another one")
        if self.password is None and not self.public and self.host not in LOCAL_HOSTS:
            raise QvggtError(
                f"other machines could use the app at {self.host} without a password: set QVGGT_APP_PASSWORD, "
                "or put one in a file (--password-file)"
            )
