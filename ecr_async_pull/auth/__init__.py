"""Who we are: AWS tokens, docker logins and registry challenges."""
