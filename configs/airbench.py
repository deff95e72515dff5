"""The packaged config of this name, for `python launch.py --config=configs/airbench.py`."""

from jaxbudget.lab.configs.airbench import get_config as get_config
