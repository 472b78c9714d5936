import io.nats.client.Connection;
import io.nats.client.ErrorListener;
import io.nats.client.Nats;
import io.nats.streaming.AckHandler;
import io.nats.streaming.Message;
import io.nats.streaming.NatsStreaming;
import io.nats.streaming.Options;
import io.nats.streaming.StreamingConnection;
import io.nats.streaming.StreamingConnectionFactory;
import io.nats.streaming.Subscription;
import io.nats.streaming.SubscriptionOptions;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A small application on java-nats-streaming that uses every option of the library: one scenario of streaming a run.
 * See ../../README.md for the command line, the scenarios and the output.
 */
public final class Streaming {
    private static final byte[] NOTHING = new byte[0];

    private static Map<String, String> flags;
    private static String channel;

    private Streaming() {}

    /** One scenario; what it returns is reported. */
    private interface Scenario {
        Map<String, Object> run() throws Exception;
    }

    /** Something that has to fail. */
    private interface Attempt {
        void run() throws Exception;
    }

    public static void main(String[] arguments) {
        flags = Report.flags(arguments);
        channel = flags.get("prefix") + ".x";
        Map<String, Scenario> scenarios = Map.of(
                "connect", Streaming::connectAndClose,
                "publish", Streaming::publish,
                "positions", Streaming::positions,
                "durable", Streaming::durable,
                "queue", Streaming::queue,
                "redelivery", Streaming::redelivery,
                "leave", Streaming::leave,
                "lost", Streaming::lost);
        try {
            Report.event("done", scenarios.get(flags.get("scenario")).run());
            System.exit(0);
        } catch (Exception error) {
            fail(error.toString());
        }
    }

    private static void fail(String error) {
        Report.event("error", Map.of("error", error));
        System.exit(1);
    }

    /** Every option that there is. Over TLS the application makes the NATS connection itself. */
    private static Options.Builder options(String cluster, String client) throws Exception {
        Options.Builder options = new Options.Builder()
                .clusterId(cluster)
                .clientId(client)
                .connectWait(Collected.PATIENCE)
                .pubAckWait(Collected.PATIENCE)
                .discoverPrefix("_STAN.discover")
                .maxPubAcksInFlight(8)
                .pingInterval(Duration.ofSeconds(2))
                .maxPingsOut(10)
                .connectionLostHandler((connection, error) -> fail("lost: " + error));
        if (flags.get("ca") == null) {
            return options
                    .natsUrl(flags.get("url"))
                    .connectionListener((connection, event) -> { })
                    .errorListener(new ErrorListener() {
                        @Override
                        public void errorOccurred(Connection connection, String error) {
                            fail(error);
                        }

                        @Override
                        public void exceptionOccurred(Connection connection, Exception error) {
                            fail(error.toString());
                        }

                        @Override
                        public void slowConsumerDetected(Connection connection, io.nats.client.Consumer consumer) {
                            fail("slow consumer");
                        }
                    });
        }
        return options.natsConn(Nats.connect(new io.nats.client.Options.Builder()
                .server(flags.get("url"))
                .connectionTimeout(Collected.PATIENCE)
                .maxReconnects(-1)
                .sslContext(Tls.context(flags.get("ca"), flags.get("cert"), flags.get("key")))
                .build()));
    }

    private static StreamingConnection connect() throws Exception {
        return connect(flags.get("cluster"), flags.get("prefix"));
    }

    private static StreamingConnection connect(String cluster, String client) throws Exception {
        return new StreamingConnectionFactory(options(cluster, client).build()).createConnection();
    }

    private static String refusal(String what, Attempt attempt) {
        try {
            attempt.run();
        } catch (Exception error) {
            return error.getMessage();
        }
        throw new IllegalStateException(what + " was not refused");
    }

    /** Publishes numbers as text; number n has sequence n. */
    private static void numbers(StreamingConnection connection, int first, int last) throws Exception {
        for (int number = first; number <= last; number++) {
            connection.publish(channel, Integer.toString(number).getBytes());
        }
    }

    private static SubscriptionOptions.Builder subscription() {
        return new SubscriptionOptions.Builder().subscriptionTimeout(Collected.PATIENCE);
    }

    private static Map<String, Object> connectAndClose() throws Exception {
        StreamingConnection connection = connect();
        String duplicate = refusal("a second client of the same ID", Streaming::connect);
        String invalid = refusal("an invalid client ID", () -> connect(flags.get("cluster"), "no.dots"));
        Options elsewhere = options("no-such-cluster", flags.get("prefix")).connectWait(Duration.ofMillis(300))
                .traceConnection().build();
        String absent = refusal("another cluster",
                () -> NatsStreaming.connect("no-such-cluster", flags.get("prefix"), elsewhere));
        connection.publish(channel, NOTHING);
        connection.close();
        String closed = refusal("publishing after the end", () -> connection.publish(channel, NOTHING));
        // The ID is free again.
        connect().close();
        return Map.of("duplicate", duplicate, "invalid", invalid, "elsewhere", absent, "closed", closed);
    }

    private static Map<String, Object> publish() throws Exception {
        StreamingConnection connection = connect();
        for (int sent = 0; sent < 10; sent++) {
            connection.publish(channel, "waits".getBytes());
        }
        BlockingQueue<String> acks = new LinkedBlockingQueue<>();
        AckHandler handler = (guid, error) -> acks.add(error == null ? guid : error.toString());
        Set<String> guids = new HashSet<>();
        for (int sent = 0; sent < 200; sent++) {
            guids.add(connection.publish(channel, "does not wait".getBytes(), handler));
        }
        int acked = 0;
        for (int sent = 0; sent < 200; sent++) {
            acked += guids.remove(acks.poll(Collected.PATIENCE.toMillis(), TimeUnit.MILLISECONDS)) ? 1 : 0;
        }
        String refused = refusal("a wildcard", () -> connection.publish(flags.get("prefix") + ".*", NOTHING));
        long last = new Collected(connection, channel, subscription().startWithLastReceived()).next().getSequence();
        connection.close();
        return Map.of("acked", acked, "refused", refused, "last", last);
    }

    private static Map<String, Object> positions() throws Exception {
        StreamingConnection connection = connect();
        numbers(connection, 1, 10);
        Thread.sleep(50);
        Instant middle = Instant.now();
        // The library tells how long ago that was; what the request needs shifts it.
        Thread.sleep(5000);
        numbers(connection, 11, 20);
        Map<String, SubscriptionOptions.Builder> options = new LinkedHashMap<>();
        options.put("new", subscription());
        options.put("first", subscription().deliverAllAvailable());
        options.put("sequence", subscription().startAtSequence(11));
        options.put("last", subscription().startWithLastReceived());
        options.put("time", subscription().startAtTime(middle));
        options.put("delta", subscription().startAtTimeDelta(Duration.between(middle, Instant.now())).dispatcher("own"));
        Map<String, Collected> subscriptions = new LinkedHashMap<>();
        for (Map.Entry<String, SubscriptionOptions.Builder> each : options.entrySet()) {
            subscriptions.put(each.getKey(), new Collected(connection, channel, each.getValue()));
        }
        numbers(connection, 21, 21);
        Map<String, Object> found = new LinkedHashMap<>();
        for (Map.Entry<String, Collected> each : subscriptions.entrySet()) {
            List<Long> sequences = new ArrayList<>();
            Message message;
            do {
                message = each.getValue().next();
                expectWellFormed(message);
                sequences.add(message.getSequence());
            } while (message.getSequence() != 21);
            found.put(each.getKey(), List.of(sequences.get(0), sequences.size()));
        }
        connection.close();
        return found;
    }

    private static void expectWellFormed(Message message) {
        long age = System.currentTimeMillis() - message.getTimestamp() / 1_000_000;
        boolean numbered = new String(message.getData()).equals(Long.toString(message.getSequence()));
        if (!numbered || !message.getSubject().equals(channel) || message.isRedelivered() || message.getCrc32() != 0
                || Math.abs(age) > 60_000) {
            throw new IllegalStateException(message + " of " + age + " ms ago");
        }
    }

    /** With one message in flight the next one shows that the last acknowledgement was seen. */
    private static SubscriptionOptions.Builder oneByOne(String durable) {
        return subscription().durableName(durable).deliverAllAvailable().manualAcks().maxInFlight(1)
                .ackWait(20, TimeUnit.SECONDS);
    }

    private static Map<String, Object> durable() throws Exception {
        StreamingConnection before = connect();
        numbers(before, 1, 10);
        Collected collected = new Collected(before, channel, oneByOne("d"));
        collected.ackUpTo(4);
        collected.next();
        collected.subscription.close();

        collected = new Collected(before, channel, oneByOne("d"));
        numbers(before, 11, 11);
        Message first = collected.next();
        first.ack();
        List<Object> resumed = new ArrayList<>(List.of(first.getSequence()));
        resumed.addAll(collected.ackUpTo(10));
        String duplicate = refusal("a second subscription to a durable",
                () -> new Collected(before, channel, oneByOne("d")));
        collected.next();
        before.close();

        StreamingConnection after = connect();
        collected = new Collected(after, channel, oneByOne("d"));
        long afterClose = collected.next().getSequence();
        collected.subscription.unsubscribe();
        collected = new Collected(after, channel, oneByOne("d"));
        long afterUnsubscribe = collected.next().getSequence();
        collected.subscription.close(true);
        after.close();
        return Map.of("resumed", resumed, "redelivered", first.isRedelivered(), "duplicate", duplicate,
                "after_close", afterClose, "after_unsubscribe", afterUnsubscribe);
    }

    private static Map<String, Object> queue() throws Exception {
        StreamingConnection connection = connect();
        List<Collected> workers = new ArrayList<>();
        for (int member = 0; member < 2; member++) {
            workers.add(new Collected(connection, channel, "workers", subscription().maxInFlight(5)));
        }
        numbers(connection, 1, 100);
        Instant deadline = Instant.now().plus(Collected.PATIENCE);
        while (workers.stream().mapToInt(worker -> worker.messages.size()).sum() < 100
                && Instant.now().isBefore(deadline)) {
            Thread.sleep(10);
        }
        boolean both = workers.stream().noneMatch(worker -> worker.messages.isEmpty());
        long shared = workers.stream().flatMap(worker -> worker.messages.stream())
                .map(Message::getSequence).distinct().count();

        Collected first = new Collected(connection, channel, "lasting", oneByOne("d"));
        first.ackUpTo(4);
        first.next();
        first.subscription.close();
        Collected second = new Collected(connection, channel, "lasting", oneByOne("d"));
        long resumed = second.next().getSequence();
        second.subscription.unsubscribe();
        Collected third = new Collected(connection, channel, "lasting", oneByOne("d"));
        long afterUnsubscribe = third.next().getSequence();
        String refused = refusal("a durable name with a colon",
                () -> new Collected(connection, channel, "lasting", oneByOne("d:e")));
        connection.close();
        return Map.of("shared", shared, "both", both, "resumed", resumed, "after_unsubscribe", afterUnsubscribe,
                "refused", refused);
    }

    private static Map<String, Object> redelivery() throws Exception {
        StreamingConnection connection = connect();
        numbers(connection, 1, 6);
        // Acknowledged by the library: with one message in flight nothing would come after the first otherwise.
        Collected auto = new Collected(connection, channel, subscription().deliverAllAvailable().maxInFlight(1));
        Collected collected = new Collected(connection, channel,
                subscription().deliverAllAvailable().ackWait(Duration.ofSeconds(1)).maxInFlight(3).manualAcks());
        List<Long> first = new ArrayList<>();
        List<Long> again = new ArrayList<>();
        List<Long> then = new ArrayList<>();
        List<Long> all = new ArrayList<>();
        boolean redelivered = true;
        while (first.size() < 3) {
            first.add(collected.next().getSequence());
        }
        // On a slow machine one may come a third time before another comes a second time.
        while (again.size() < 3) {
            Message message = collected.next();
            message.ack();
            if (!again.contains(message.getSequence())) {
                redelivered = redelivered && message.isRedelivered();
                again.add(message.getSequence());
            }
        }
        while (then.size() < 3) {
            Message message = collected.next();
            message.ack();
            if (!message.isRedelivered()) {
                then.add(message.getSequence());
            }
        }
        again.sort(null);
        while (all.size() < 6) {
            all.add(auto.next().getSequence());
        }
        connection.close();
        return Map.of("first", first, "again", again, "redelivered", redelivered, "then", then, "auto", all);
    }

    private static Map<String, Object> leave() throws Exception {
        StreamingConnection connection = connect();
        Collected first = new Collected(connection, channel, subscription());
        Collected second = new Collected(connection, channel, subscription());
        Collected third = new Collected(connection, channel, subscription());
        numbers(connection, 1, 1);
        for (Collected each : List.of(first, second, third)) {
            each.next();
        }
        Subscription ended = first.subscription;
        if (!ended.getSubject().equals(channel) || ended.getQueue() != null || ended.getAckInbox() == null
                || ended.getOptions().isManualAcks()) {
            throw new IllegalStateException("a subscription of " + ended.getSubject());
        }
        ended.unsubscribe();
        second.subscription.close();
        String twice = refusal("a second unsubscription", ended::unsubscribe);
        numbers(connection, 2, 2);
        third.next();
        int after = first.messages.size() + second.messages.size();
        String refused = refusal("a wildcard", () -> new Collected(connection, channel + ".*", subscription()));
        connection.close();
        return Map.of("after", after, "twice", twice, "refused", refused);
    }

    /** Freezes of the server are the test's: after `ready` nothing is answered any more. */
    private static Map<String, Object> lost() throws Exception {
        CompletableFuture<String> reason = new CompletableFuture<>();
        Options options = options(flags.get("cluster"), flags.get("prefix"))
                .pingInterval(Duration.ofSeconds(1))
                .maxPingsOut(3)
                .pubAckWait(Duration.ofMillis(500))
                .connectionLostHandler((connection, error) -> reason.complete(error.getMessage()))
                .build();
        StreamingConnection connection = new StreamingConnectionFactory(options).createConnection();
        Report.event("ready", Map.of());
        Instant deadline = Instant.now().plus(Collected.PATIENCE);
        while (Instant.now().isBefore(deadline)) {
            try {
                connection.publish(channel, NOTHING);
            } catch (IOException | TimeoutException error) {
                String told = reason.get(Collected.PATIENCE.toMillis(), TimeUnit.MILLISECONDS);
                return Map.of("timeout", error.getMessage(), "lost", told);
            }
            Thread.sleep(20);
        }
        throw new IllegalStateException("everything is acknowledged");
    }
}
