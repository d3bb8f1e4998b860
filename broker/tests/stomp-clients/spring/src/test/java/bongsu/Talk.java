package bongsu;

import java.lang.reflect.Type;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.springframework.messaging.simp.stomp.StompFrameHandler;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSession;

/** What tests do with a session, each step awaited for longer than anything takes on a busy machine. */
final class Talk {
  private static final long PATIENCE_SECONDS = 60;

  private Talk() {}

  static <T> T await(CompletableFuture<T> future) throws Exception {
    return future.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
  }

  /** Messages in the order in which they came. */
  static final class Inbox<T> implements StompFrameHandler {
    record Came<T>(StompHeaders headers, T body) {}

    private final Class<T> type;
    private final BlockingQueue<Came<T>> messages = new LinkedBlockingQueue<>();

    Inbox(Class<T> type) {
      this.type = type;
    }

    @Override
    public Type getPayloadType(StompHeaders headers) {
      return type;
    }

    @Override
    public void handleFrame(StompHeaders headers, Object body) {
      messages.add(new Came<>(headers, type.cast(body)));
    }

    Came<T> next() throws InterruptedException {
      Came<T> came = messages.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
      if (came == null) throw new AssertionError("no message came in time");
      return came;
    }
  }

  /** Subscribes, and waits until the broker says so. */
  static StompSession.Subscription subscribe(StompSession session, StompHeaders headers, Inbox<?> inbox) throws Exception {
    headers.setReceipt("subscribe-" + System.nanoTime());
    StompSession.Subscription subscription = session.subscribe(headers, inbox);
    confirmed(subscription);
    return subscription;
  }

  /** Sends, and waits until the broker has kept it. */
  static void send(StompSession session, String destination, Object body) throws Exception {
    StompHeaders headers = new StompHeaders();
    headers.setDestination(destination);
    headers.setReceipt("send-" + System.nanoTime());
    confirmed(session.send(headers, body));
  }

  static StompHeaders to(String destination) {
    StompHeaders headers = new StompHeaders();
    headers.setDestination(destination);
    return headers;
  }

  private static void confirmed(StompSession.Receiptable receiptable) throws Exception {
    CompletableFuture<Void> done = new CompletableFuture<>();
    receiptable.addReceiptTask(() -> done.complete(null));
    receiptable.addReceiptLostTask(() -> done.completeExceptionally(new AssertionError("no receipt")));
    await(done);
  }
}
