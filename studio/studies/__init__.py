"""Human preference studies: planning, rendering, voting, results."""
