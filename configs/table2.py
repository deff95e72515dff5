"""The packaged config of this name, for `python launch.py --config=configs/table2.py`."""

from jaxbudget.lab.configs.table2 import get_config as get_config
