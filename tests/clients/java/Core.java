import io.nats.client.AuthHandler;
import io.nats.client.Connection;
import io.nats.client.Dispatcher;
import io.nats.client.ErrorListener;
import io.nats.client.Message;
import io.nats.client.NKey;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.Subscription;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsMessage;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CancellationException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * A small application on jnats: one scenario of core NATS a run. See ../README.md for the command line, the
 * scenarios and the output.
 */
public final class Core {
    /** For an answer, on a busy machine. */
    private static final Duration PATIENCE = Duration.ofSeconds(20);

    /** Messages that are under way when a connection is drained. */
    private static final int DRAINED = 200;

    private static Map<String, String> flags;
    private static final AtomicInteger disconnects = new AtomicInteger();
    private static final BlockingQueue<String> complaints = new LinkedBlockingQueue<>();
    private static final BlockingQueue<String> reconnected = new LinkedBlockingQueue<>();

    private Core() {}

    /** One scenario; what it returns is reported. */
    private interface Scenario {
        Map<String, Object> run(Connection connection) throws Exception;
    }

    public static void main(String[] arguments) {
        flags = Report.flags(arguments);
        Map<String, Scenario> scenarios = Map.of(
                "login", Core::login,
                "messages", Core::messages,
                "survive", Core::survive,
                "drain", Core::drain,
                "queue", Core::queue,
                "permissions", Core::permissions);
        try {
            Scenario scenario = scenarios.get(flags.get("scenario"));
            Connection connection = connect();
            Map<String, Object> result = scenario.run(connection);
            connection.close();
            Report.event("done", result);
            System.exit(0);
        } catch (Exception error) {
            Report.event("error", Map.of("error", error.toString()));
            System.exit(1);
        }
    }

    private static Connection connect() throws Exception {
        Options.Builder options = new Options.Builder()
                .server(flags.get("url"))
                .connectionTimeout(PATIENCE)
                .maxReconnects(-1)
                .reconnectWait(Duration.ofMillis(100))
                .connectionListener((connection, event) -> {
                    switch (event) {
                        case DISCONNECTED -> disconnects.incrementAndGet();
                        case DISCOVERED_SERVERS -> Report.event("discovered", Map.of());
                        case LAME_DUCK -> Report.event("lame_duck", Map.of());
                        case RECONNECTED -> {
                            Report.event("reconnected", Map.of());
                            reconnected.add("");
                        }
                        default -> { }
                    }
                })
                .errorListener(new ErrorListener() {
                    @Override
                    public void errorOccurred(Connection connection, String error) {
                        complaints.add(error);
                    }
                });
        if (flags.containsKey("ca")) {
            options.sslContext(Tls.context(flags.get("ca"), flags.get("cert"), flags.get("key")));
        }
        if (flags.containsKey("user")) {
            options.userInfo(flags.get("user").toCharArray(), flags.get("password").toCharArray());
        }
        if (flags.containsKey("token")) {
            options.token(flags.get("token").toCharArray());
        }
        if (flags.containsKey("seed")) {
            options.authHandler(new Seed(Files.readString(Path.of(flags.get("seed"))).trim().toCharArray()));
        }
        return Nats.connect(options.build());
    }

    /** Signs with an nkey; the library itself reads seeds only beside a JWT. */
    private record Seed(char[] seed) implements AuthHandler {
        @Override
        public byte[] sign(byte[] nonce) {
            try {
                return NKey.fromSeed(seed).sign(nonce);
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        }

        @Override
        public char[] getID() {
            try {
                return NKey.fromSeed(seed).getPublicKey();
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        }

        @Override
        public char[] getJWT() {
            return null;
        }
    }

    private static String named(String subject) {
        return flags.get("prefix") + "." + subject;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(Message message) {
        return new String(message.getData(), StandardCharsets.UTF_8);
    }

    private static Message next(Subscription subscription) throws Exception {
        Message message = subscription.nextMessage(PATIENCE);
        if (message == null) {
            throw new TimeoutException("no message on " + subscription.getSubject());
        }
        return message;
    }

    private static String next(BlockingQueue<String> queue) throws Exception {
        String item = queue.poll(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        if (item == null) {
            throw new TimeoutException("nothing was said");
        }
        return item;
    }

    /** Publishes to its own subscription. */
    private static void roundTrip(Connection connection, String subject) throws Exception {
        Subscription subscription = connection.subscribe(subject);
        connection.publish(subject, bytes("there and back"));
        next(subscription);
        subscription.unsubscribe();
    }

    private static Map<String, Object> login(Connection connection) throws Exception {
        roundTrip(connection, named("login"));
        return Map.of();
    }

    private static Map<String, Object> messages(Connection connection) throws Exception {
        Subscription echo = connection.subscribe(named("echo"));
        Headers headers = new Headers().add("Trace", "a", "b: c").add("Empty", "");
        connection.publish(NatsMessage.builder().subject(named("echo")).headers(headers).build());
        Message headed = next(echo);

        byte[] large = bytes("0123456789abcdef".repeat(1 << 16));
        connection.publish(named("echo"), large);
        Message echoed = next(echo);
        boolean tooLarge = false;
        try {
            connection.publish(named("echo"), Arrays.copyOf(large, large.length + 1));
        } catch (IllegalArgumentException error) {
            tooLarge = true;
        }

        long began = System.nanoTime();
        boolean nobody = false;
        try {
            // The library answers a request that nobody takes by giving it up.
            connection.request(named("nobody"), new byte[0]).get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        } catch (CancellationException error) {
            nobody = true;
        }
        long waited = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began);

        Dispatcher service = connection.createDispatcher(message ->
                connection.publish(message.getReplyTo(), bytes("hello " + text(message))));
        service.subscribe(named("service"));
        Message answer = connection.request(named("service"), bytes("java"), PATIENCE);
        Map<String, Object> result = new LinkedHashMap<>();
        result.put("trace", headed.getHeaders().get("Trace"));
        result.put("empty", headed.getHeaders().containsKey("Empty"));
        result.put("body", headed.getData().length);
        result.put("large", Arrays.equals(large, echoed.getData()));
        result.put("too_large", tooLarge);
        result.put("no_responders", nobody);
        result.put("waited_ms", waited);
        result.put("answer", text(answer));
        return result;
    }

    private static Map<String, Object> survive(Connection connection) throws Exception {
        Subscription ticks = connection.subscribe(named("ticks"));
        connection.publish(named("ticks"), bytes("before"));
        String before = text(next(ticks));
        Report.event("connected", Map.of());
        reconnected.take();
        connection.publish(named("ticks"), bytes("after"));
        String after = text(next(ticks));
        return Map.of("ticks", List.of(before, after), "server", connection.getConnectedUrl());
    }

    private static Map<String, Object> drain(Connection worker) throws Exception {
        AtomicInteger handled = new AtomicInteger();
        Dispatcher work = worker.createDispatcher(message -> {
            Thread.sleep(1);
            handled.incrementAndGet();
            worker.publish(message.getReplyTo(), new byte[0]);
        });
        work.subscribe(named("work"));
        worker.flush(PATIENCE);

        Connection asker = connect();
        Subscription answers = asker.subscribe(named("answers"));
        for (int n = 0; n < DRAINED; n++) {
            asker.publish(named("work"), named("answers"), new byte[0]);
        }
        asker.flush(PATIENCE);
        worker.drain(PATIENCE).get();
        int answered = 0;
        for (int n = 0; n < DRAINED; n++) {
            next(answers);
            answered++;
        }
        asker.close();
        return Map.of("handled", handled.get(), "answered", answered);
    }

    private static Map<String, Object> queue(Connection connection) throws Exception {
        AtomicInteger received = new AtomicInteger();
        Dispatcher workers = connection.createDispatcher(message -> received.incrementAndGet());
        workers.subscribe(named("jobs"), "workers");
        Subscription stop = connection.subscribe(named("stop"));
        connection.flush(PATIENCE);
        Report.event("subscribed", Map.of());
        next(stop);
        connection.drain(PATIENCE).get();
        return Map.of("received", received.get());
    }

    private static Map<String, Object> permissions(Connection connection) throws Exception {
        connection.createDispatcher(message -> { }).subscribe(named("hidden"));
        String first = next(complaints);
        connection.publish(named("secret"), new byte[0]);
        String second = next(complaints);
        roundTrip(connection, named("open"));
        return Map.of("complaints", List.of(first, second), "disconnects", disconnects.get());
    }
}
