"""Settings for all tests."""

from hypothesis import settings

# A slow moment of the machine is no fault of the code: no test asserts on time.
settings.register_profile("project", deadline=None, print_blob=True)
settings.load_profile("project")
