use serde_json::json;

use super::*;
use crate::gateway::failure::SeenIn;

#[test]
fn replies_of_vllm_get_litellms_fields_in_litellms_order() {
    let body = json!({
        "id": "c", "object": "chat.completion", "created": 5, "model": "Qwen3", "system_fingerprint": null,
        "choices": [{
            "index": 0, "logprobs": null, "finish_reason": null, "stop_reason": null,
            "message": { "role": "assistant", "content": "hello", "refusal": null, "tool_calls": [], "reasoning_content": null },
        }],
        "usage": { "prompt_tokens": 11, "total_tokens": 18, "completion_tokens": 7, "prompt_tokens_details": null },
        "prompt_logprobs": null, "service_tier": "fast",
    });
    let completion = hosted_vllm::completion(body.to_string().as_bytes()).unwrap();
    let choices = concat!(
        r#"[{"finish_reason":"stop","index":0,"message":{"content":"hello","role":"assistant","#,
        r#""provider_specific_fields":{"refusal":null}},"provider_specific_fields":{"stop_reason":null}}]"#,
    );
    assert_eq!(completion.choices.to_string(), choices);
    let usage = r#"{"completion_tokens":7,"prompt_tokens":11,"total_tokens":18}"#;
    assert_eq!(completion.usage.unwrap().to_string(), usage);
    assert_eq!(Value::from(completion.more), json!({ "service_tier": "fast" }));
}

#[test]
fn errors_with_status_200_are_those_they_name() {
    let error = |body: Value| hosted_vllm::completion(body.to_string().as_bytes()).unwrap_err();
    let named = error(json!({ "error": { "message": "dead", "code": 503 } }));
    assert_eq!(
        (named.status, named.class, named.seen_in),
        (503, ErrorClass::ServiceUnavailable, SeenIn::Content)
    );
    assert_eq!(error(json!({ "error": "dead" })).status, 422);
    let none = error(json!({ "error": {}, "x": 1 }));
    assert_eq!(none.status, 500);
    assert!(none.message.ends_with("no 'choices'. Raw keys: ['error', 'x']"), "{}", none.message);
    let ollama = ollama_chat::completion(br#"{"error": "dead"}"#).unwrap_err();
    assert_eq!((ollama.class, ollama.seen_in), (ErrorClass::ApiConnection, SeenIn::Reading));
}

#[test]
fn values_are_quoted_as_python_prints_them() {
    let value = json!({ "error": "it's", "a": [true, false, null, 1.5], "b": "x\n\"'\\" });
    assert_eq!(python_repr(&value), r#"{'error': "it's", 'a': [True, False, None, 1.5], 'b': 'x\n"\'\\'}"#);
}

#[test]
fn a_cut_reply_tells_what_came_of_it() {
    let limits = Limits { request_timeout: None, timeout: None };
    let cut = |expected| {
        let error = TransportError::Truncated { received: 3, expected };
        transport_failure(Provider::OllamaChat, &error, Duration::ZERO, Duration::ZERO, limits).message
    };
    assert!(cut(Some(9)).contains("(received 3 of 9 bytes)"), "{}", cut(Some(9)));
    assert!(cut(None).contains("TransferEncodingError"), "{}", cut(None));
}

#[test]
fn log_probabilities_of_vllm_are_kept_without_their_nulls() {
    let said = json!({ "content": [{ "token": "a", "logprob": -0.5, "bytes": null, "top_logprobs": [] }] });
    let kept = json!({ "content": [{ "token": "a", "logprob": -0.5, "top_logprobs": [] }] });
    let body = json!({ "choices": [{ "logprobs": said, "message": { "content": "a" } }] });
    let completion = hosted_vllm::completion(body.to_string().as_bytes()).unwrap();
    assert_eq!(completion.choices[0]["logprobs"], kept);
    let event = json!({ "choices": [{ "logprobs": said, "delta": { "content": "a" } }] });
    let Ok(Some(Chunk::Delta { logprobs, .. })) = hosted_vllm::chunk(&event.to_string()) else { panic!() };
    assert_eq!(logprobs, Some(kept));
}
