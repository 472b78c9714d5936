import io.nats.streaming.Message;
import io.nats.streaming.StreamingConnection;
import io.nats.streaming.Subscription;
import io.nats.streaming.SubscriptionOptions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** A subscription whose messages are taken one by one. */
final class Collected {
    /** For whatever must come, on a busy machine. */
    static final Duration PATIENCE = Duration.ofSeconds(60);

    final BlockingQueue<Message> messages = new LinkedBlockingQueue<>();
    final Subscription subscription;

    Collected(StreamingConnection connection, String channel, SubscriptionOptions.Builder options) throws Exception {
        subscription = connection.subscribe(channel, messages::add, options.build());
    }

    /** A member of a queue group. */
    Collected(StreamingConnection connection, String channel, String group, SubscriptionOptions.Builder options)
            throws Exception {
        subscription = connection.subscribe(channel, group, messages::add, options.build());
    }

    Message next() throws Exception {
        Message message = messages.poll(PATIENCE.toMillis(), TimeUnit.MILLISECONDS);
        if (message == null) {
            throw new IllegalStateException("no message within " + PATIENCE);
        }
        return message;
    }

    /** Takes and acknowledges messages up to this sequence; their sequences. */
    List<Object> ackUpTo(long last) throws Exception {
        List<Object> sequences = new ArrayList<>();
        Message message;
        do {
            message = next();
            message.ack();
            sequences.add(message.getSequence());
        } while (message.getSequence() != last);
        return sequences;
    }
}
