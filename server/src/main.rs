//! The process: options, signals, exit status. Everything else is the library's half of this package.

use qwentts_server::config::{self, Said};
use qwentts_server::{App, listen};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Threads that wait for engines and disks besides those that read utterances.
const SPARE_THREADS: usize = 64;
/// What threads may still take once all is served.
const LAST_WORK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let config = match config::read(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Said::Serve(config)) => *config,
        Ok(Said::Print(text)) => {
            let _ = std::io::stdout().write_all(text.as_bytes()); // who closed it wants no more
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error),
    };
    let utterances = (config.slots.saturating_add(config.queue)).saturating_mul(config.all_models().len());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(utterances.saturating_add(SPARE_THREADS).min(16_384))
        .build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(run(config));
            // A model that is still being downloaded or opened, a voice that is being made: nobody waits for them any more.
            runtime.shutdown_timeout(LAST_WORK);
            done
        }
        Err(e) => Err(format!("threads: {e}")),
    };
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &str) -> ExitCode {
    eprintln!("qwentts-server: {}", error.trim_end());
    ExitCode::from(2)
}

async fn run(config: config::Config) -> Result<(), String> {
    let (host, port) = (config.host.clone(), config.port);
    let listener = listen::bind(&host, port).await.map_err(|e| format!("host: cannot listen on {host}:{port}: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    eprintln!("qwentts-server: listening on http://{address}/");
    let app = App::new(config);
    let opening = {
        let app = app.clone();
        tokio::task::spawn_blocking(move || app.open())
    };
    let told = tokio::spawn(wait_for_signals(app.clone()));
    let mut serving = tokio::spawn(listen::serve(listener, app.clone()));
    // Requests are answered 503 while models load; a model that does not open ends the process.
    tokio::select! {
        opened = opening => opened.map_err(|e| e.to_string())??,
        _ = &mut serving => return Ok(()),
    }
    eprintln!("qwentts-server: ready");
    let _ = serving.await;
    told.abort();
    eprintln!("qwentts-server: stopped");
    Ok(())
}

/// The first signal drains, the second ends at once.
async fn wait_for_signals(app: Arc<App>) {
    signal().await;
    eprintln!("qwentts-server: stopping; what is under way may end");
    app.drain();
    signal().await;
    std::process::exit(1);
}

async fn signal() {
    #[cfg(unix)]
    if let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = term.recv() => return,
            _ = tokio::signal::ctrl_c() => return,
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
