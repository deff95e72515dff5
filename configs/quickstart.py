"""The packaged config of this name, for `python launch.py --config=configs/quickstart.py`."""

from jaxbudget.lab.configs.quickstart import get_config as get_config
