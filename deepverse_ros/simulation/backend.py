"""Which OpenGL draws the pictures: chosen before MuJoCo is imported, because it looks at MUJOCO_GL only then."""

import ctypes
import os

from deepverse_ros.errors import DeepverseError

APT_PACKAGES = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri (EGL) or apt-get install libosmesa6 (OSMesa)"
_EGL_PLATFORM_DEVICE_EXT = 0x313F


class RenderingError(DeepverseError, RuntimeError):
    """No way to render here; the message names the packages that are missing."""


def choose_backend() -> str:
    """How to render on this machine; the choice is also left in MUJOCO_GL, which MuJoCo reads when it is imported.

    A value that the user has set is kept. Returns: "egl", "osmesa" or, only when the user asked for it, "glfw".
    Raises: RenderingError for another value, or naming the system packages when neither EGL nor OSMesa works.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if not chosen:
        chosen = "egl" if _egl_works() else "osmesa" if _osmesa_works() else ""
        if not chosen:
            raise RenderingError(f"neither EGL nor OSMesa works on this machine; install one of them: {APT_PACKAGES}")
        os.environ["MUJOCO_GL"] = chosen
    if chosen not in ("egl", "osmesa", "glfw"):
        raise RenderingError(f"MUJOCO_GL={chosen}: expected egl, osmesa or glfw, or leave it unset")
    return chosen


def _egl_works() -> bool:
    """Whether EGL can open a device without a display."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    query, display_of = (egl.eglGetProcAddress(n) for n in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT"))
    if not query or not display_of:
        return False
    devices = (ctypes.c_void_p * 16)()
    count = ctypes.c_int()
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(query)
    get_display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(display_of)
    if not query_devices(16, ctypes.addressof(devices), ctypes.addressof(count)):
        return False
    egl.eglInitialize.argtypes = [ctypes.c_void_p] * 3
    displays = (get_display(_EGL_PLATFORM_DEVICE_EXT, devices[k], None) for k in range(count.value))
    return any(display and egl.eglInitialize(display, None, None) for display in displays)


def _osmesa_works() -> bool:
    return any(_loads(name) for name in ("libOSMesa.so", "libOSMesa.so.8", "libOSMesa.so.6"))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


BACKEND = choose_backend()
