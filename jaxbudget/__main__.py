"""`python -m jaxbudget`: the launcher, as by the command `jaxbudget`."""

from jaxbudget.lab.command import run

if __name__ == '__main__':
  run()
