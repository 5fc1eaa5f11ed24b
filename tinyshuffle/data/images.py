"""Pictures of other people's making: whatever Pillow opens, turned upright, as RGB."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TinyshuffleError
from ..ops.arguments import check_plain

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["open_image", "read_image"]


def read_image(image: Any, size: int) -> np.ndarray:
    """Return a picture as uint8 (size, size, 3): upright, RGB, the middle square, scaled.

    Parameters and errors as of :func:`open_image`.
    """
    from PIL import Image, ImageOps

    square = ImageOps.fit(open_image(image, 2 * size), (size, size), Image.Resampling.BICUBIC)
    return np.asarray(square)


def open_image(image: Any, enough: int | None = None) -> Image:
    """Return a picture as a Pillow image: upright and RGB.

    What is transparent is put on white, and of an animation the first picture is taken.

    Parameters
    ----------
    image : path, Pillow image or array (H, W), (H, W, 3) or (H, W, 4)
        Arrays are whole numbers from 0 to 255, 16 bits, or real numbers from 0 to 1.
    enough : int, optional
        Sides of so many pixels are enough: a large JPEG is decoded at an eighth, a quarter or a
        half of its size, which is several times as fast.

    Raises
    ------
    TinyshuffleError
        If it is no picture, damaged, too large, or its numbers could mean several things.
    """
    from PIL import Image, ImageOps

    check_plain(image)
    name = repr(str(image)) if isinstance(image, (str, os.PathLike)) else "this picture"
    try:
        with warnings.catch_warnings():
            # of what it reads all the same, such as damaged EXIF, Pillow does not say the name
            warnings.simplefilter("ignore", UserWarning)
            # and it only warns of pictures that would fill the memory, unless they are huge
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(image, np.ndarray):
                pixels = _bytes(image)
                one_channel = pixels.shape[2:] == (1,)
                image = Image.fromarray(pixels[..., 0] if one_channel else pixels)
            if isinstance(image, Image.Image):
                return _rgb(ImageOps.exif_transpose(image))
            with Image.open(image) as opened:  # one of several pictures keeps its file open
                if enough is not None:
                    opened.draft(None, (enough, enough))
                return _rgb(ImageOps.exif_transpose(opened))
    except Image.UnidentifiedImageError as error:
        raise TinyshuffleError(
            f"{name} is not an image that Pillow can open: give a PNG, JPEG, WebP or the like"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TinyshuffleError(f"{name} is too large ({error}): make it smaller first") from error
    except Exception as error:  # the readers of Pillow's many formats raise all kinds at damage
        # OSError has strerror if the file cannot be read, and none if the image is damaged
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise TinyshuffleError(
            f"{name} cannot be read as an image ({reason}): check the path, or save it anew"
        ) from error


def _rgb(image: Image) -> Image:
    """Return an image as RGB, on white; loads all of it, so that damage shows."""
    from PIL import Image as pillow

    image.load()
    if image.mode == "F" or image.mode.startswith("I"):  # Pillow would cut off at 255
        deep = image.mode.startswith("I;16")
        return pillow.fromarray(_bytes(np.asarray(image), deep)).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        white = pillow.new("RGBA", image.size, "white")
        image = pillow.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _bytes(pixels: np.ndarray, deep: bool = False) -> np.ndarray:
    """Return pixels as uint8, 0..255; ``deep`` says that they have 16 bits, however dark."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind not in "iuf" or pixels.size == 0:
        raise ValueError(f"it is {pixels.dtype} of shape {pixels.shape}")
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f" and 0 <= low and high <= 1:
        return (pixels * 255).round().astype(np.uint8)
    if pixels.dtype.kind in "iu" and 0 <= low and high <= 65535:
        if deep or high > 255:
            return (pixels // 257).astype(np.uint8)
        return pixels.astype(np.uint8)
    raise ValueError(
        f"its pixels are {pixels.dtype} from {low:g} to {high:g}, and should be whole numbers from "
        "0 to 255, 16 bits, or real numbers from 0 to 1"
    )
