"""What camera_info says of a camera's pictures: their pinhole, after region, binning and distortion."""

import functools
from dataclasses import dataclass, replace

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from deepverse_ros.errors import MessageError, ShapeError
from deepverse_ros.geometry import Intrinsics

_COEFFICIENTS = {
    "plumb_bob": (4, 5, 8, 12, 14),
    "rational_polynomial": (4, 5, 8, 12, 14),
    "equidistant": (4,),
    "fisheye": (4,),
}
"""How many there may be of each distortion_model: those of OpenCV."""


@dataclass(frozen=True)
class CameraModel:
    """A camera whose pictures are (height, width) of `intrinsics` as they come.

    distortion: what cv2 takes beside the camera matrix, empty where pictures need not be rectified. fisheye: which of
    cv2's two models it is.
    """

    intrinsics: Intrinsics
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    def reduced(self, k: int) -> Intrinsics:
        """Of a picture whose pixels are means of k by k; what is left over at the right and below is cut off."""
        camera = self.intrinsics
        width, height = camera.width // k, camera.height // k
        return replace(camera, width=width * k, height=height * k).resized(width, height)

    def rectified(self, pixels: np.ndarray, k: int) -> np.ndarray:
        """A picture (h, w, 3) uint8 or depth (h, w) float32 that was made smaller by k, as a pinhole would see it.

        The camera matrix stays. What the camera did not see is black, or NaN.
        """
        if not self.distortion:
            return pixels
        maps = _maps(self.reduced(k), self.distortion, self.fisheye)
        if pixels.ndim == 2:  # nearest: a mean over an edge would be a distance at which nothing is
            return cv2.remap(pixels, *maps, cv2.INTER_NEAREST, borderValue=float("nan"))
        return cv2.remap(pixels, *maps, cv2.INTER_LINEAR)


def camera_model(message: CameraInfo, height: int, width: int, rectified: bool = False) -> CameraModel:
    """What `message` says of pictures of (height, width).

    A region of interest and binning are taken as image_geometry takes them: k and the region are in pixels of the whole
    sensor. A picture without either may have another size than camera_info's, but not another aspect.

    Args: rectified: the pictures already are (image_rect…): p says where they lie, and nothing is distorted.
    Raises: MessageError naming what cannot be used.
    """
    k = np.reshape(message.p, (3, 4))[:, :3] if rectified and any(message.p) else np.reshape(message.k, (3, 3))
    if not any(message.k):
        raise MessageError("camera_info: k is zero: the camera is not calibrated")
    region, x, y = message.roi, max(message.binning_x, 1), max(message.binning_y, 1)
    whole = region.width == 0 or region.height == 0
    left, top = (0, 0) if whole else (region.x_offset, region.y_offset)
    across, down = (message.width, message.height) if whole else (region.width, region.height)
    try:
        camera = Intrinsics.from_matrix(k, across, down)
        camera = replace(camera, cx=camera.cx - left, cy=camera.cy - top)
    except (ShapeError, ValueError) as error:
        raise MessageError(f"camera_info: {error}") from error
    exact = abs(across / x - width) <= 1 and abs(down / y - height) <= 1
    scaled = whole and x == y == 1 and abs(across * height - down * width) <= max(across, width)
    if not (exact or scaled):
        how = f"{message.width}x{message.height}"
        how += "" if whole else f" of which {across}x{down} at ({left}, {top}) are read (roi)"
        how += "" if x == y == 1 else f", binned by {x}x{y}"
        raise MessageError(
            f"camera_info is of {how}: pictures of {width}x{height} pixels are another cut of the sensor"
        )
    if exact:  # a pixel that is left over at the right or below changes no scale
        camera = replace(camera, width=width * x, height=height * y)
    camera = camera.resized(width, height)
    return CameraModel(camera) if rectified or not any(message.d) else CameraModel(camera, *_distortion(message))


def _distortion(message: CameraInfo) -> tuple[tuple[float, ...], bool]:
    name, values = message.distortion_model, tuple(message.d)
    if name not in _COEFFICIENTS:
        raise MessageError(f"camera_info: distortion_model is '{name}'; known: {', '.join(_COEFFICIENTS)}")
    if len(values) not in _COEFFICIENTS[name] or not np.isfinite(values).all():
        many = " or ".join(map(str, _COEFFICIENTS[name]))
        raise MessageError(f"camera_info: d is {list(values)}; {name} has {many} finite coefficients")
    return values, _COEFFICIENTS[name] == (4,)


@functools.lru_cache(maxsize=4)
def _maps(camera: Intrinsics, distortion: tuple[float, ...], fisheye: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where in the picture each pixel of the pinhole lies: x and y, each (h, w) float32."""
    matrix, size = camera.matrix.astype(np.float64), (camera.width, camera.height)
    undistort = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    return undistort(matrix, np.array(distortion), np.eye(3), matrix, size, cv2.CV_32FC1)


def info_from_intrinsics(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    """A pinhole camera without distortion as a message."""
    k = intrinsics.matrix.astype(np.float64)
    return CameraInfo(
        header=header,
        width=intrinsics.width,
        height=intrinsics.height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel().tolist(),
    )
