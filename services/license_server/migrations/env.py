"""Where Alembic takes the connection from: whoever runs the migrations has one open already, and commits."""

from alembic import context


def run() -> None:
    config = getattr(context, "config", None)
    if config is None:  # imported by itself, outside a migration
        return
    context.configure(connection=config.attributes["connection"], transactional_ddl=False)
    context.run_migrations()


run()
