from deepverse_ros.simulation.arm.scene import sample_scene
def sample_near_scene(rng, n, m, randomise=True, base_offset=(0.,0.)):
    return sample_scene(rng, 3 if n is None else n, 1 if m is None else m, randomise, base_offset)
