"""RGB-D pictures of a MuJoCo model without a display or a GPU."""

import atexit
import importlib
import weakref
from typing import Any

import numpy as np

from deepverse_ros.simulation.backend import APT_PACKAGES, BACKEND, RenderingError

# isort: split
import mujoco

_open_renderers: "weakref.WeakSet[Renderer]" = weakref.WeakSet()


def _close_all() -> None:
    for renderer in list(_open_renderers):
        renderer.close()


class Renderer:
    """Draws one fixed camera, colour and depth in a single pass.

    A renderer belongs to the thread that made it. The model may be exchanged between pictures (`use`), as long as it
    has no textures or meshes.
    """

    def __init__(self, model: Any, width: int, height: int) -> None:
        try:
            self._gl = importlib.import_module(f"mujoco.{BACKEND}").GLContext(max(width, 640), max(height, 480))
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as error:  # the bindings raise many kinds, all meaning that there is no usable OpenGL
            raise RenderingError(f"cannot render with MUJOCO_GL={BACKEND}: {error}; install {APT_PACKAGES}") from error
        if not _open_renderers:
            # Contexts must go before MuJoCo's own exit handler ends EGL, and handlers run last registered first.
            atexit.unregister(_close_all)
            atexit.register(_close_all)
        _open_renderers.add(self)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.use(model)

    def use(self, model: Any) -> None:
        """Draw `model` from now on."""
        self._model = model
        self._scene = mujoco.MjvScene(model, maxgeom=200)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = 0
        self._camera.fixedcamid = model.camera("camera").id
        self._near = model.vis.map.znear * model.stat.extent
        self._far = model.vis.map.zfar * model.stat.extent

    def render(self, data: Any, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Picture of `data`.

        Returns: rgb (H, W, 3) uint8; depth (H, W) float32, metres along the optical axis.
        """
        self._gl.make_current()
        if width > self._context.offWidth or height > self._context.offHeight:
            size = max(width, self._context.offWidth), max(height, self._context.offHeight)
            mujoco.mjr_resizeOffscreen(*size, self._context)
        view = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(view, self._scene, self._context)
        rgb, depth = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.float32)
        mujoco.mjr_readPixels(rgb, depth, view, self._context)
        metres = self._near * self._far / (self._far - depth[::-1] * (self._far - self._near))
        return np.ascontiguousarray(rgb[::-1]), metres.astype(np.float32)

    def close(self) -> None:
        """Free the OpenGL context. Rendering afterwards is an error."""
        if self._gl is not None:
            self._context.free()
            self._gl.free()
            self._gl = None
