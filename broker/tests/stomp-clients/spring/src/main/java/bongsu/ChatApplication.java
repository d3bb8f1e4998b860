package bongsu;

import java.security.Principal;
import java.util.Map;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.event.EventListener;
import org.springframework.http.server.ServerHttpRequest;
import org.springframework.messaging.handler.annotation.MessageMapping;
import org.springframework.messaging.handler.annotation.Payload;
import org.springframework.messaging.handler.annotation.SendTo;
import org.springframework.messaging.simp.SimpMessagingTemplate;
import org.springframework.messaging.simp.annotation.SendToUser;
import org.springframework.messaging.simp.config.MessageBrokerRegistry;
import org.springframework.stereotype.Controller;
import org.springframework.web.socket.WebSocketHandler;
import org.springframework.web.socket.config.annotation.EnableWebSocketMessageBroker;
import org.springframework.web.socket.config.annotation.StompEndpointRegistry;
import org.springframework.web.socket.config.annotation.WebSocketMessageBrokerConfigurer;
import org.springframework.web.socket.messaging.SessionDisconnectEvent;
import org.springframework.web.socket.server.support.DefaultHandshakeHandler;

/** The usual chat, with its broker elsewhere. Who somebody is stands in the query, which only a test would believe. */
@SpringBootApplication
public class ChatApplication {
  public static void main(String[] arguments) {
    SpringApplication.run(ChatApplication.class, arguments);
  }

  @Configuration
  @EnableWebSocketMessageBroker
  static class Broker implements WebSocketMessageBrokerConfigurer {
    @Value("${broker.port}")
    private int port;

    @Override
    public void registerStompEndpoints(StompEndpointRegistry registry) {
      DefaultHandshakeHandler handshake = new DefaultHandshakeHandler() {
        @Override
        protected Principal determineUser(ServerHttpRequest request, WebSocketHandler handler, Map<String, Object> attributes) {
          String name = request.getURI().getQuery().replace("user=", "");
          return () -> name;
        }
      };
      // Otherwise the application itself handles what one client sends in any order.
      registry.setPreserveReceiveOrder(true);
      registry.addEndpoint("/ws").setHandshakeHandler(handshake);
      registry.addEndpoint("/ws").setHandshakeHandler(handshake).withSockJS();
    }

    @Override
    public void configureMessageBroker(MessageBrokerRegistry registry) {
      registry.setApplicationDestinationPrefixes("/app");
      registry.setPreservePublishOrder(true);
      registry
          .enableStompBrokerRelay("/topic", "/queue")
          .setRelayHost("127.0.0.1")
          .setRelayPort(port)
          .setUserDestinationBroadcast("/topic/unresolved-user-destination")
          .setUserRegistryBroadcast("/topic/simp-user-registry");
    }
  }

  /** What is said in the room. */
  public record Line(String kind, String sender, String text) {}

  /** What somebody says to one other. */
  public record Whisper(String to, String text) {}

  @Controller
  static class Chat {
    private final SimpMessagingTemplate template;

    Chat(SimpMessagingTemplate template) {
      this.template = template;
    }

    @MessageMapping("/chat.addUser")
    @SendTo("/topic/public")
    Line addUser(Principal user) {
      return new Line("JOIN", user.getName(), "");
    }

    @MessageMapping("/chat.send")
    @SendTo("/topic/public")
    Line send(@Payload String text, Principal user) {
      return new Line("CHAT", user.getName(), text);
    }

    @MessageMapping("/chat.whisper")
    void whisper(@Payload Whisper whisper, Principal user) {
      template.convertAndSendToUser(whisper.to(), "/queue/whispers", new Line("WHISPER", user.getName(), whisper.text()));
    }

    @MessageMapping("/chat.echo")
    @SendToUser("/queue/echoes")
    Line echo(@Payload String text, Principal user) {
      return new Line("ECHO", user.getName(), text);
    }

    @EventListener
    void left(SessionDisconnectEvent event) {
      template.convertAndSend("/topic/public", new Line("LEAVE", event.getUser().getName(), ""));
    }
  }
}
