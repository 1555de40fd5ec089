"""`python -m leadspan`, and so `torchrun -m leadspan train run.yaml`."""

from leadspan.cli.main import main

if __name__ == "__main__":
    main()
