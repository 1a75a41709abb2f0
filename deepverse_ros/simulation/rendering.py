"""RGB-D pictures of a MuJoCo model without a display or a GPU."""

import atexit
import importlib
import weakref
from typing import Any

import numpy as np

from deepverse_ros.simulation.backend import APT_PACKAGES, BACKEND, RenderingError

# isort: split
import mujoco

_CODED = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
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
        self._geom_of_code: dict[int | None, np.ndarray] = {}

    def render(self, data: Any, width: int, height: int, hidden: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Picture of `data`.

        Args: hidden: the group of geoms that is left out.
        Returns: rgb (H, W, 3) uint8; depth (H, W) float32, metres along the optical axis.
        """
        self._gl.make_current()
        if width > self._context.offWidth or height > self._context.offHeight:
            size = max(width, self._context.offWidth), max(height, self._context.offHeight)
            mujoco.mjr_resizeOffscreen(*size, self._context)
        view = mujoco.MjrRect(0, 0, width, height)
        if hidden is not None:
            self._option.geomgroup[hidden] = 0
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        if hidden is not None:
            self._option.geomgroup[hidden] = 1
        mujoco.mjr_render(view, self._scene, self._context)
        rgb, depth = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.float32)
        mujoco.mjr_readPixels(rgb, depth, view, self._context)
        metres = self._near * self._far / (self._far - depth[::-1] * (self._far - self._near))
        return np.ascontiguousarray(rgb[::-1]), metres.astype(np.float32)

    def render_geoms(
        self, data: Any, width: int, height: int, hidden: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `render`, and which geom (H, W) int32 of the model is seen, -1 where none is."""
        rgb, depth = self.render(data, width, height, hidden)
        view, codes = mujoco.MjrRect(0, 0, width, height), np.empty((height, width, 3), np.uint8)
        for flag in _CODED:
            self._scene.flags[flag] = 1
        mujoco.mjr_render(view, self._scene, self._context)
        for flag in _CODED:
            self._scene.flags[flag] = 0
        mujoco.mjr_readPixels(codes, None, view, self._context)
        if hidden not in self._geom_of_code:
            self._geom_of_code[hidden] = self._geoms_by_code()
        return rgb, depth, self._geom_of_code[hidden][codes[::-1, :, 0]]

    def _geoms_by_code(self) -> np.ndarray:
        """(256,) the geom that each value of red stands for; fewer than 256 are drawn, so red alone tells them."""
        out = np.full(256, -1, np.int32)
        for drawn in self._scene.geoms[: self._scene.ngeom]:
            if drawn.objtype == mujoco.mjtObj.mjOBJ_GEOM and drawn.segid >= 0:
                out[drawn.segid + 1] = drawn.objid
        return out

    def close(self) -> None:
        """Free the OpenGL context. Rendering afterwards is an error."""
        if self._gl is not None:
            self._context.free()
            self._gl.free()
            self._gl = None
