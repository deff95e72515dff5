"""The packaged config of this name, for `python launch.py --config=configs/schedules.py`."""

from jaxbudget.lab.configs.schedules import get_config as get_config
