"""python -m fedemb: the same as the fedemb command."""

from fedemb.cli.main import main

if __name__ == "__main__":
    main()
