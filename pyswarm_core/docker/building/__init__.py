"""What a build reads: Dockerfiles and .dockerignore files."""
