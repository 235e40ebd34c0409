//! Hooks at small servers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use stead_resource::hook::Hook;
use stead_resource::{Call, Failure, Stop};

const LIMIT: Duration = Duration::from_secs(5);
const OK: &str = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";

/// Answers each request so, and tells what was asked.
fn server(answer: &'static str, tls: Option<Arc<ServerConfig>>) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, asked) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let told = match &tls {
                None => serve(stream, answer),
                Some(config) => serve(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream), answer),
            };
            let _ = told.map(|text| sender.send(text));
        }
    });
    (address, asked)
}

fn serve(mut stream: impl Read + Write, answer: &str) -> io::Result<String> {
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while !text.contains("\r\n\r\n") {
        let len = stream.read(&mut bytes)?;
        text += &String::from_utf8_lossy(&bytes[..len]);
    }
    stream.write_all(answer.as_bytes())?;
    stream.flush()?;
    Ok(text)
}

fn hook(url: &str) -> Hook {
    Hook {
        url: url.parse().unwrap(),
        method: "POST".into(),
        headers: vec![("Content-Type".into(), "application/json".into())],
        body: "{\"group\": \"notes\"}".into(),
        secret: None,
        ca_file: None,
        expect: vec![200..=299],
    }
}

fn call(hook: &Hook) -> Result<u16, Failure> {
    hook.call_until(LIMIT, &Stop::never()).value
}

#[test]
fn a_request_is_sent_as_it_was_written() {
    let (address, asked) = server(OK, None);
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "Bearer abc\n").unwrap();
    let hook =
        Hook { secret: Some(("Authorization".into(), secret.clone())), ..hook(&format!("http://{address}/told?a=b")) };
    assert_eq!(call(&hook), Ok(204));
    let text = asked.recv_timeout(LIMIT).unwrap();
    let head = format!("POST /told?a=b HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 18\r\n");
    let rest = "Content-Type: application/json\r\nAuthorization: Bearer abc\r\n\r\n{\"group\": \"notes\"}";
    assert_eq!(text, head + rest);
    fs::write(&secret, "a\nb").unwrap();
    assert!(matches!(call(&hook), Err(Failure::Unusable(why)) if why.contains("is not one line")));
    fs::remove_file(&secret).unwrap();
    assert!(matches!(call(&hook), Err(Failure::Unusable(why)) if why.contains("secret file")));
}

#[test]
fn an_answer_that_was_not_expected_is_told() {
    let (address, _asked) = server("HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\ncome later", None);
    let mut hook = hook(&format!("http://{address}/"));
    let why = call(&hook).unwrap_err().to_string();
    assert!(why.contains("answers 503: come later"), "{why}");
    hook.expect = vec![200..=200, 503..=503];
    assert_eq!(call(&hook), Ok(503));
    let (address, _asked) = server("SSH-2.0-x\r\n\r\n", None);
    let why = call(&self::hook(&format!("http://{address}/"))).unwrap_err().to_string();
    assert!(why.contains("is not HTTP") || why.contains("does not answer within"), "{why}");
}

#[test]
fn a_server_that_is_silent_is_given_up_in_time_or_when_called_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = hook(&format!("http://{}/", listener.local_addr().unwrap()));
    let called = hook.call_until(Duration::from_millis(200), &Stop::never());
    assert!(called.value.unwrap_err().to_string().contains("does not answer within 0.2 s"));
    let call = Call::new().unwrap();
    let (stop, began) = (call.stop(), Instant::now());
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        call.off();
    });
    assert_eq!(hook.call_until(LIMIT, &stop).value, Err(Failure::Cancelled));
    assert!(began.elapsed() < LIMIT / 2);
}

/// A server's certificate for 127.0.0.1, and its file.
fn certified(dir: &Path) -> (Arc<ServerConfig>, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
    let file = dir.join("ca.pem");
    let der: CertificateDer = made.cert.der().clone();
    let base64: String = data_encoding::BASE64.encode(&der);
    fs::write(&file, format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (Arc::new(config.with_no_client_auth().with_single_cert(vec![der], key).unwrap()), file)
}

#[test]
fn an_encrypted_server_has_to_be_vouched_for() {
    let dir = tempfile::tempdir().unwrap();
    let (config, ca_file) = certified(dir.path());
    let (address, asked) = server(OK, Some(config));
    let mut hook = hook(&format!("https://{address}/told"));
    hook.ca_file = Some(ca_file);
    assert_eq!(call(&hook), Ok(204));
    assert!(asked.recv_timeout(LIMIT).unwrap().starts_with("POST /told HTTP/1.1\r\n"));
    let (_, other) = certified(tempfile::tempdir().unwrap().keep().as_path());
    hook.ca_file = Some(other.clone());
    let why = call(&hook).unwrap_err().to_string();
    assert!(why.contains("certificate"), "{why}");
    fs::remove_dir_all(other.parent().unwrap()).unwrap();
    hook.ca_file = Some("/no/such/file".into());
    assert!(matches!(call(&hook), Err(Failure::Unusable(why)) if why.contains("/no/such/file cannot be read")));
}
