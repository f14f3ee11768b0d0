"""The app as a Hugging Face Space: everybody may use it, so its limits are tighter than those of ``qvggt app``."""

import logging
import os

from qvggt.app.web.server import serve
from qvggt.options import AppLimits, AppOptions

OPTIONS = AppOptions(
    models=tuple(os.environ.get("QVGGT_MODELS", "nano").split()),
    host="0.0.0.0",
    port=int(os.environ.get("PORT", "7860")),
    public=True,
    limits=AppLimits(images=16, file_mb=50, megapixels=50, waiting=8),
)

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    serve(OPTIONS, print)
