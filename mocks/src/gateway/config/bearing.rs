//! What a setting that the mock does not act upon bears on.
//!
//! The lists name keys of LiteLLM 1.106.2 that change nothing about how a chat request is routed, retried, answered
//! or attributed. A key that is not listed bears on everything: that is the safe side for one that nobody has looked
//! at.

use serde::Serialize;
use serde_json::Value;

/// A setting of the configuration that the mock gateway does not act upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unsupported {
    /// JSON path of the key, such as `model_list[0].litellm_params.rpm`.
    pub path: String,
    /// What would go otherwise if the mock acted upon it.
    pub bears_on: BearsOn,
}

/// The requests whose outcome a setting may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BearsOn {
    /// Any request.
    Everything,
    /// Requests that reach one of these groups, as the group asked for or as a fallback target.
    Groups(Vec<String>),
    /// No chat request: the key is for logs, spending, administration or other APIs, or LiteLLM ignores it itself.
    Nothing,
}

impl Unsupported {
    pub(super) fn new(path: String, bears_on: BearsOn) -> Self {
        Self { path, bears_on }
    }
}

/// Top-level sections for other APIs (agents, assistants, files, tool servers, searches, prompts by id) and for
/// what callbacks are told.
const TOP_LEVEL: [&str; 15] = [
    "agent_list",
    "agents",
    "assistant_settings",
    "callback_settings",
    "default_vertex_config",
    "files_settings",
    "finetune_settings",
    "mcp_servers",
    "mcp_tools",
    "pass_through_endpoints",
    "prompts",
    "sandbox_tools",
    "search_tools",
    "vector_store_registry",
    "worker_registry",
];

/// Log level and alerts. The scheduler and tag filters are not here: they hold requests back
/// or choose among deployments.
const ROUTER: [&str; 3] = ["alerting_config", "debug_level", "set_verbose"];

/// What is logged, where to, under which labels, and what is kept of it.
const LITELLM_LOGGING: &[&str] = &[
    "argilla_batch_size",
    "audit_log_callbacks",
    "aws_sqs_callback_params",
    "callback_settings",
    "cold_storage_custom_logger",
    "custom_prometheus_metadata_labels",
    "custom_prometheus_tags",
    "datadog_llm_observability_params",
    "datadog_params",
    "disable_streaming_logging",
    "disable_add_user_agent_to_request_tags",
    "enable_end_user_cost_tracking_prometheus_only",
    "failure_callback",
    "generic_logger_headers",
    "global_disable_no_log_param",
    "json_logs",
    "langfuse_default_tags",
    "langfuse_enable_update_trace_keys",
    "langsmith_batch_size",
    "log_auth_failure_key_identity",
    "log_client_error_tracebacks",
    "log_raw_request_response",
    "logged_real_time_event_types",
    "newrelic_params",
    "prometheus_emit_input_sequence_length_label",
    "prometheus_emit_rate_limit_labels",
    "prometheus_emit_stream_label",
    "prometheus_end_user_metrics_cleanup_interval_seconds",
    "prometheus_end_user_metrics_max_series_per_metric",
    "prometheus_end_user_metrics_ttl_seconds",
    "prometheus_exclude_labels",
    "prometheus_exclude_metrics",
    "prometheus_initialize_budget_metrics",
    "prometheus_latency_buckets",
    "prometheus_metrics_cleanup_interval_seconds",
    "prometheus_metrics_config",
    "prometheus_metrics_max_series_per_metric",
    "prometheus_metrics_ttl_seconds",
    "redact_user_api_key_info",
    "request_correlation_in_logs",
    "require_auth_for_metrics_endpoint",
    "s3_audit_callback_params",
    "s3_callback_params",
    "service_callback",
    "set_verbose",
    "standard_logging_payload_excluded_fields",
    "store_audit_logs",
    "success_callback",
    "suppress_debug_info",
    "turn_off_message_logging",
];

/// Spending, and who may administer what. Budgets that refuse requests need keys of a database or are not here.
const LITELLM_ADMIN: &[&str] = &[
    "apply_search_free_tier",
    "blog_posts_url",
    "budget_reset_time",
    "cost_discount_config",
    "cost_margin_config",
    "default_internal_user_params",
    "default_key_generate_params",
    "default_key_max_budget_alert_emails",
    "default_team_params",
    "disable_end_user_cost_tracking",
    "disable_end_user_cost_tracking_prometheus_only",
    "enable_key_alias_format_validation",
    "extra_spend_tag_headers",
    "key_alias_pattern",
    "key_generation_settings",
    "max_ui_session_budget",
    "mcp_aliases",
    "mcp_tool_search",
    "public_agent_groups",
    "public_mcp_hub_strict_whitelist",
    "public_mcp_servers",
    "public_model_groups",
    "public_model_groups_links",
    "public_skills_index",
    "upperbound_key_generate_params",
];

/// Callbacks that only write down what happened. Any other name in `callbacks` may be a hook that changes requests.
const LOGGERS: &[&str] = &[
    "agentops",
    "argilla",
    "arize",
    "arize_phoenix",
    "aws_sqs",
    "azure_sentinel",
    "azure_storage",
    "braintrust",
    "clickhouse",
    "cloudzero",
    "datadog",
    "datadog_llm_observability",
    "datadog_metrics",
    "deepeval",
    "galileo",
    "gcs_bucket",
    "gcs_pubsub",
    "generic_api",
    "lago",
    "langfuse",
    "langfuse_otel",
    "langsmith",
    "langtrace",
    "literalai",
    "logfire",
    "mlflow",
    "newrelic",
    "openmeter",
    "opik",
    "otel",
    "pagerduty",
    "posthog",
    "prometheus",
    "resend_email",
    "s3",
    "s3_v2",
    "sendgrid_email",
    "sentry",
    "signoz",
    "smtp_email",
    "vantage",
    "weave_otel",
];

/// Alerts and logs of the proxy.
const GENERAL_LOGGING: &[&str] = &[
    "alert_to_webhook_url",
    "alert_type_config",
    "alert_types",
    "alerting",
    "alerting_args",
    "alerting_threshold",
    "disable_error_logs",
    "otel",
    "tracing",
];

/// Spending and what a database keeps of it. `database_url` is not here: a database can bring models and settings.
const GENERAL_SPENDING: &[&str] = &[
    "apply_user_budget_to_team_keys",
    "database_connect_timeout",
    "database_connection_pool_limit",
    "database_connection_pool_timeout",
    "database_connection_timeout",
    "database_disable_prepared_statements",
    "database_extra_connection_params",
    "database_max_idle_connection_lifetime",
    "database_socket_timeout",
    "disable_budget_reservation",
    "disable_prisma_schema_update",
    "disable_reset_budget",
    "disable_spend_logs",
    "disable_spend_updates",
    "maximum_autorouter_session_retention_period",
    "maximum_daily_tag_spend_retention_period",
    "maximum_health_check_retention_period",
    "maximum_spend_logs_cleanup_batch_size",
    "maximum_spend_logs_cleanup_batch_timeout",
    "maximum_spend_logs_cleanup_cron",
    "maximum_spend_logs_cleanup_max_batches",
    "maximum_spend_logs_cleanup_run_budget",
    "maximum_spend_logs_retention_interval",
    "maximum_spend_logs_retention_period",
    "proxy_batch_write_at",
    "scheduled_job_stagger",
    "spend_capture_rate_check",
    "spend_logs_metadata_fields",
    "spend_report_frequency",
    "store_prompts_in_spend_logs",
    "track_unmanaged_batch_cost",
    "use_spend_logs_partitioning",
];

/// The admin page, sign-in, passwords, teams, the documentation pages, and how background health checks are made
/// (`background_health_checks`, which turns them on, is not here).
const GENERAL_ADMIN: &[&str] = &[
    "allow_cli_sso_verification_uri_complete",
    "allow_public_health_readiness_details",
    "auto_redirect_ui_login_to_sso",
    "control_plane_url",
    "custom_key_generate",
    "custom_key_policy",
    "custom_key_update",
    "custom_sso",
    "custom_team_metadata_validate",
    "custom_ui_sso_sign_in_handler",
    "default_team_disabled",
    "disable_auto_add_proxy_admin_to_teams",
    "disable_env_credential_login",
    "disable_key_generate_for_org_admin",
    "disable_master_key_return",
    "disable_password_login_when_sso_enabled",
    "docs_description",
    "docs_title",
    "docs_url",
    "enable_drain_endpoint",
    "enable_public_model_hub",
    "failed_login_block_seconds",
    "failed_login_window_seconds",
    "health_check_concurrency",
    "health_check_details",
    "health_check_interval",
    "hide_default_credentials_hint",
    "max_failed_login_attempts_per_source",
    "max_failed_login_attempts_per_source_overrides",
    "password_policy_check_breached_passwords",
    "password_policy_min_length",
    "password_policy_require_lowercase",
    "password_policy_require_numbers",
    "password_policy_require_special_characters",
    "password_policy_require_uppercase",
    "proxy_config_reload_interval_seconds",
    "redoc_url",
    "team_metadata_schema",
    "team_metadata_validation_error_message",
    "team_metadata_validation_timeout",
    "trusted_proxy_ranges",
    "ui_access_mode",
];

/// Batches, files, tool servers, transcription, sockets, pass-through: not the chat API.
const GENERAL_OTHER_APIS: &[&str] = &[
    "allow_unmanaged_response_ids",
    "allowed_file_extensions",
    "blocked_file_extensions",
    "claude_code_gateway_managed_settings",
    "disable_batch_input_file_rate_limiting",
    "disable_bedrock_agent_runtime_passthrough",
    "disable_responses_id_security",
    "enable_claude_code_gateway",
    "enable_mcp_registry",
    "enable_openai_websocket_passthrough",
    "max_batch_file_records",
    "max_batch_file_size_mb",
    "max_batch_file_uploads_per_day",
    "max_file_downloads_per_minute",
    "max_file_size_mb",
    "mcp_advertised_versions",
    "mcp_allow_all_keys_respects_mcp_scope",
    "mcp_allowed_clients",
    "mcp_client_id_header",
    "mcp_client_side_auth_header_name",
    "mcp_internal_ip_ranges",
    "mcp_prefer_client_id_metadata_document",
    "mcp_required_fields",
    "mcp_session_token_signing",
    "mcp_trusted_proxy_ranges",
    "mcp_xff_num_trusted_hops",
    "pass_through_endpoints",
    "pass_through_request_timeout",
    "passthrough_managed_object_ids",
    "require_end_user_mcp_access_defined",
    "require_key_mcp_access_defined",
    "responses_websocket_session_limit_seconds",
    "search_tool_deny_by_default",
    "search_tools",
    "skip_batch_input_file_rate_limiting_for_models",
    "skip_batch_input_file_rate_limiting_for_providers",
    "transcribe_media_buckets",
    "user_mcp_management_mode",
    "vector_store_deny_by_default",
];

/// Prices, and what the model list shows to people.
const DEPLOYMENT: [&str; 8] = [
    "cache_creation_input_token_cost",
    "cache_read_input_token_cost",
    "input_cost_per_second",
    "input_cost_per_token",
    "output_cost_per_second",
    "output_cost_per_token",
    "model_info",
    "use_in_pass_through",
];

/// What `router_settings` may hold in LiteLLM 1.106.2: the arguments of its router but those that it sets itself. Any
/// other key LiteLLM ignores, with a warning.
pub const ROUTER_SETTINGS: [&str; 50] = [
    "alerting_config",
    "allowed_fails",
    "allowed_fails_policy",
    "background_health_check_model_groups",
    "cache_kwargs",
    "cache_responses",
    "caching_groups",
    "client_ttl",
    "content_policy_fallbacks",
    "context_window_fallbacks",
    "cooldown_time",
    "debug_level",
    "default_fallbacks",
    "default_litellm_params",
    "default_max_parallel_requests",
    "default_priority",
    "deployment_affinity_ttl_seconds",
    "disable_cooldowns",
    "enable_health_check_routing",
    "enable_pre_call_checks",
    "enable_tag_filtering",
    "enable_weighted_failover",
    "fallbacks",
    "guardrail_list",
    "health_check_ignore_transient_errors",
    "health_check_staleness_threshold",
    "max_fallbacks",
    "model_group_affinity_config",
    "model_group_alias",
    "model_group_retry_policy",
    "num_retries",
    "optional_pre_call_checks",
    "plugins",
    "polling_interval",
    "provider_budget_config",
    "redis_db",
    "redis_host",
    "redis_password",
    "redis_port",
    "redis_url",
    "retry_after",
    "retry_policy",
    "routing_groups",
    "routing_strategy",
    "routing_strategy_args",
    "set_verbose",
    "stream_timeout",
    "tag_filtering_match_any",
    "tag_routing_prefix",
    "timeout",
];

/// Keys whose value is LiteLLM's own default: written or not, nothing changes.
const AT_DEFAULT: &[(&str, &str)] = &[
    ("router_settings.routing_strategy", r#""simple-shuffle""#),
    ("router_settings.routing_strategy_args", "{}"),
    ("router_settings.model_group_alias", "{}"),
    ("router_settings.default_litellm_params", "{}"),
    ("router_settings.cache_responses", "false"),
    ("router_settings.cache_kwargs", "{}"),
    ("router_settings.enable_pre_call_checks", "false"),
    ("router_settings.enable_tag_filtering", "false"),
    ("router_settings.enable_health_check_routing", "false"),
    ("router_settings.optional_pre_call_checks", "[]"),
    ("router_settings.client_ttl", "3600"),
    ("litellm_settings.cache", "false"),
    ("litellm_settings.drop_params", "false"),
    ("litellm_settings.modify_params", "false"),
    ("litellm_settings.callbacks", "[]"),
    ("litellm_settings.use_aiohttp_transport", "true"),
    ("litellm_settings.disable_aiohttp_transport", "false"),
    ("litellm_settings.ssl_verify", "true"),
    ("general_settings.background_health_checks", "false"),
    ("general_settings.infer_model_from_keys", "false"),
    ("general_settings.store_model_in_db", "false"),
    ("general_settings.enable_health_check_routing", "false"),
    ("environment_variables", "{}"),
    ("guardrails", "[]"),
];

/// What the key `key` of the section at `path` bears on; `None` where its value is the default.
pub(super) fn bearing(path: &str, key: &str, value: &Value) -> Option<BearsOn> {
    let full = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let written = value.to_string();
    if AT_DEFAULT.iter().any(|(at, default)| *at == full && *default == written) {
        return None;
    }
    let listed = |lists: &[&[&str]]| lists.iter().any(|list| list.contains(&key));
    let nothing = match path {
        "" => listed(&[&TOP_LEVEL]),
        "router_settings" => listed(&[&ROUTER]) || !listed(&[&ROUTER_SETTINGS]),
        "litellm_settings" if key == "callbacks" => only_loggers(value),
        "litellm_settings" => listed(&[LITELLM_LOGGING, LITELLM_ADMIN]),
        "general_settings" => listed(&[GENERAL_LOGGING, GENERAL_SPENDING, GENERAL_ADMIN, GENERAL_OTHER_APIS]),
        deployment if deployment.starts_with("model_list[") => listed(&[&DEPLOYMENT]),
        _ => false,
    };
    Some(if nothing { BearsOn::Nothing } else { BearsOn::Everything })
}

fn only_loggers(callbacks: &Value) -> bool {
    let is_logger = |name: &Value| name.as_str().is_some_and(|name| LOGGERS.contains(&name));
    match callbacks {
        Value::Array(names) => names.iter().all(is_logger),
        name => is_logger(name),
    }
}
