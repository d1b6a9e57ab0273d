"""The room that speaks to LLM providers: no database, no broker, no environment."""
